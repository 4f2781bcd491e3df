/**
 * Tables that people keep, one per line, related ones together: `table column column ...`. `!` marks a table whose rows
 * are people. What a column holds follows from its last word (columns.mjs).
 */
export const DOMAINS = `
singer! singer_id name country age genre net_worth gender birth_year
concert concert_id title year venue attendance ticket_price singer_id
album album_id title release_year label genre sales copies singer_id
stadium stadium_id name city capacity opened surface

employee! employee_id name age salary department hire_date job manager city gender email_code
department department_id name budget location manager employees founded
office office_id city country floor area rent seats
payroll payroll_id employee_id amount bonus tax payment_date

student! student_id first_name last_name age major gpa grade enrollment_year city credits
course course_id title credits department instructor level capacity
enrollment enrollment_id student_id course_id semester grade score
professor! professor_id name department salary specialty hire_year office
classroom room_number building capacity floor
exam exam_id subject exam_date duration max_score

product product_id name price category brand stock weight rating color
customer! customer_id name city country email age balance join_date
orders order_id customer_id order_date total status quantity
supplier supplier_id company_name country contact phone rating
warehouse warehouse_id city capacity area manager
invoice invoice_id customer amount due_date status tax
shipment shipment_id carrier destination weight ship_date cost status
category category_id name description

flight flight_id airline origin destination distance price duration departure_date
airport airport_code name city country elevation gates
airline airline_id name country fleet_size founded
passenger! passenger_id name nationality age seat class flight_id
aircraft aircraft_id model manufacturer capacity range speed build_year
pilot! pilot_id name age rank experience nationality

patient! patient_id name age gender diagnosis city admission_date blood_type weight
doctor! doctor_id name specialty salary experience hospital phone
appointment appointment_id patient_id doctor_id appointment_date reason fee status
hospital hospital_id name city beds founded rating
medication medication_id name manufacturer price dose stock expiry_date
nurse! nurse_id name ward shift salary age
surgery surgery_id surgeon procedure_name duration cost surgery_date outcome

book book_id title author publisher year pages price genre language
author! author_id name nationality birth_year books
library library_id name city books opened_year
loan loan_id book_id member_id loan_date due_date fine
member! member_id name age city join_date membership_type
publisher publisher_id name country founded revenue
magazine magazine_id title topic publisher circulation price

movie movie_id title director year genre rating budget duration gross_revenue
actor! actor_id name age nationality gender salary awards
cinema cinema_id name city seats screens opening_year
screening screening_id movie_id cinema_id screening_date ticket_price
tv_show show_id title network seasons episodes rating genre
episode episode_id title season_number air_date viewers runtime

car car_id make model year price color mileage horsepower fuel_type
dealer dealer_id name city sales rating
driver! driver_id name age license_number experience rating
garage garage_id name address capacity mechanics
truck truck_id plate load_capacity driver mileage status
repair repair_id car_id mechanic cost repair_date hours
race race_id name circuit race_date laps winner distance
motorcycle motorcycle_id brand model engine_size price top_speed

team team_id name city coach founded wins losses stadium
player! player_id name position age goals team height salary nationality
game game_id home_team away_team game_date attendance home_score away_score
coach! coach_id name age experience salary nationality
league league_id name country teams founded
referee! referee_id name country experience matches
tournament tournament_id name year location prize_money winner
athlete! athlete_id name sport country medals age height weight
medal medal_id athlete event year type

restaurant restaurant_id name cuisine city rating seats average_price
dish dish_id name price calories category chef
chef! chef_id name age specialty experience salary
reservation reservation_id customer_name reservation_date guests table_number status
recipe recipe_id title cuisine difficulty cooking_time servings author
ingredient ingredient_id name unit price stock supplier
menu menu_id name season price items
cafe cafe_id name neighborhood tables rating opening_year

hotel hotel_id name city stars rooms price rating
room room_id hotel_id type price floor beds status
guest! guest_id name nationality age phone checkin_date
booking booking_id guest_id room_id start_date end_date total_price
tour tour_id name destination duration price guide max_guests
travel_agency agency_id name country employees rating

bank bank_id name headquarters assets branches founded
account account_id owner balance type opened_date branch interest_rate
transaction transaction_id account_id amount transaction_date type currency
branch branch_id name city manager employees revenue
credit_card card_id holder_name card_type credit_limit expiry_date
mortgage mortgage_id borrower amount interest_rate term_years start_date
insurance_policy policy_id holder type premium start_date status

city city_id name country population area mayor elevation founded
country country_code name continent population area capital gdp language
river river_id name length country source depth
mountain mountain_id name height country range first_ascent_year
lake lake_id name area depth country
island island_id name area population country
national_park park_id name state area visitors established
bridge bridge_id name length location built height
building building_id name city floors height architect completion_year

museum museum_id name city visitors founded entry_fee
painting painting_id title artist year style value museum
artist! artist_id name nationality birth_year style paintings
exhibition exhibition_id title theme start_date end_date visitors
sculpture sculpture_id title sculptor material height year
gallery gallery_id name city owner area

farm farm_id name owner area location established
crop crop_id name season yield price_per_ton soil_type
animal animal_id name species age weight habitat
cow cow_id breed weight age milk_yield
tractor tractor_id brand power price purchase_year
orchard orchard_id name trees area region
vineyard vineyard_id name region grape area annual_production
zoo zoo_id name city animals area ticket_price
pet pet_id name species breed age weight owner
veterinarian! vet_id name clinic specialty experience
shelter shelter_id name city capacity dogs cats

house house_id address city price bedrooms bathrooms area year_built
apartment apartment_id building floor rent rooms area tenant
tenant! tenant_id name age phone move_in_date rent
agent! agent_id name agency commission_rate sales experience
property property_id type owner value city size
contractor! contractor_id name trade hourly_rate city

project project_id name budget start_date end_date manager status
task task_id title assignee priority status due_date estimated_hours
client client_id company_name industry city contact annual_revenue
developer! developer_id name language experience salary team
bug bug_id title severity status reporter created_date
server server_id hostname location memory cpu_count status os
application application_id name version platform downloads rating size
user_account user_id username email country created_at login_count
ticket ticket_id subject priority status customer created_date
device device_id name type manufacturer price battery_life
sensor sensor_id type location temperature humidity installation_date

song song_id title artist duration release_year plays genre
playlist playlist_id name creator songs followers
band band_id name country genre formed_year members
musician! musician_id name instrument age band nationality
instrument instrument_id name type price origin
festival festival_id name city start_date attendance ticket_price
radio_station station_id name frequency city listeners format

train train_id name operator capacity top_speed build_year
station station_id name city platforms passengers opened
bus bus_id route_number driver capacity fuel_type year
route route_id origin destination distance stops duration
ship ship_id name type tonnage length built flag captain
port port_id name country berths depth annual_cargo
taxi taxi_id driver plate model rating trips
bicycle bicycle_id brand type price weight color
parking_lot lot_id location spaces hourly_rate

school school_id name city students type principal founded
teacher! teacher_id name subject salary experience school age
pupil! pupil_id name grade age guardian city
club club_id name president members founded budget
scholarship scholarship_id name amount sponsor deadline
university university_id name city students ranking tuition founded
research_paper paper_id title author journal citations year
laboratory lab_id name director budget department area
scientist! scientist_id name field institution publications age
experiment experiment_id name scientist start_date cost result

store store_id name city manager revenue employees size
sale sale_id product amount sale_date seller store_id
clothing clothing_id name size color material price
shoe shoe_id brand size color price style
jewelry jewelry_id name metal gem price weight
furniture furniture_id name material price width height
toy toy_id name age_limit price manufacturer
phone phone_id brand model price storage battery release_year
laptop laptop_id brand processor memory price weight
camera camera_id brand model resolution price type
discount discount_id code percentage start_date end_date
review review_id product reviewer rating review_date likes
wine wine_id name grape region year price rating
beer beer_id name brewery style alcohol_percentage price
coffee coffee_id name origin roast price

politician! politician_id name party state age votes
election election_id year state winner turnout votes
party party_id name leader seats founded
law law_id title category passed_date status
court_case case_id title judge status filing_date verdict
lawyer! lawyer_id name firm specialty hourly_rate experience
police_officer! officer_id name rank station salary age
crime crime_id type location crime_date severity
donation donation_id donor amount donation_date campaign
volunteer! volunteer_id name age city hours join_date
charity charity_id name cause country revenue employees
event event_id name location event_date attendance organizer budget
speaker! speaker_id name topic fee country
conference conference_id name city year attendees fee
workshop workshop_id title instructor duration price capacity

planet planet_id name mass diameter moons distance
star star_id name constellation magnitude distance temperature
satellite satellite_id name country launch_date orbit weight
spacecraft spacecraft_id name mission launch_year cost
astronaut! astronaut_id name nationality missions age
rocket rocket_id name manufacturer height payload cost

weather record_id city temperature humidity wind_speed date
earthquake earthquake_id location magnitude depth date deaths
power_plant plant_id name type capacity country built
mine mine_id name mineral location depth annual_output
forest forest_id name country area tree_type
plant plant_id name species height price sunlight
flower flower_id name color season price
bird bird_id species wingspan habitat diet population
fish fish_id species length weight habitat
dinosaur dinosaur_id name period diet length weight
insect insect_id name family legs size

company company_id name industry headquarters employees revenue founded ceo
factory factory_id name city workers output opened_year
machine machine_id model manufacturer price installation_year status
contract contract_id client value start_date end_date status
asset asset_id name type value purchase_date location
stock stock_id symbol company price volume sector
investor! investor_id name country portfolio_value age
startup startup_id name founder industry funding year
advertisement ad_id title channel cost views start_date
campaign campaign_id name budget channel clicks status
subscription subscription_id customer plan price start_date status
gym gym_id name city members monthly_fee
trainer! trainer_id name specialty hourly_rate experience
yoga_class class_id name instructor level capacity price
swimmer! swimmer_id name stroke best_time country
boxer! boxer_id name weight_class wins losses country
cyclist! cyclist_id name team age country wins
video_game game_id title platform publisher release_year sales score
streamer! streamer_id username followers platform language
article article_id title author publication_date words category
newspaper newspaper_id name city circulation founded price
journalist! journalist_id name newspaper beat experience
language language_id name family speakers writing_system
dancer! dancer_id name style age troupe
theater theater_id name city seats built
play play_id title playwright year genre acts
costume costume_id name size color rental_price
`
  .trim()
  .split(/\n\s*\n/)
  .map((group) =>
    group.split("\n").map((line) => {
      const [head, ...columns] = line.split(" ");
      return { table: head.replace("!", ""), person: head.endsWith("!"), columns };
    }),
  );
